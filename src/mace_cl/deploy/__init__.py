"""MACE's deployment and device files: reading them, and what each key does here."""
