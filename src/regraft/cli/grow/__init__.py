"""`regraft grow`: a trained model in another size. One module a verb; each registers itself with the group."""

__all__: list[str] = []
