"""The compiled-program file: its bytes, what it holds, when it is used, and where it is kept."""
