from toys.tasks import checkpoint, data, folder, subject  # noqa: F401
