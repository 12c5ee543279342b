from toys.starts import aids, checkpoints  # noqa: F401
