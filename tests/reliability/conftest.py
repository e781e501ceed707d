"""The commands here are run by tests in processes of their own."""

collect_ignore = ["crashes.py", "long_run.py", "mutations.py", "victims.py"]
