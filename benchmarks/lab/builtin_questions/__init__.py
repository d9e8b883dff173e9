"""Where the built-in questions come from: `python -m benchmarks.lab.builtin_questions` writes their data file."""
