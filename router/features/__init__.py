"""Features, which a router sees of a question: computed once by actors, stored, memory-mapped."""
