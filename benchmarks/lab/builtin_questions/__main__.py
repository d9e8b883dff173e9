"""Write the built-in questions into the package.

python -m benchmarks.lab.builtin_questions
"""

from __future__ import annotations

from pathgen.questions.builtin import BUILTIN_FILE

from .kinds import builtin_text


def main() -> None:
    BUILTIN_FILE.write_text(builtin_text(), encoding="utf-8")
    print(BUILTIN_FILE)


if __name__ == "__main__":
    main()
