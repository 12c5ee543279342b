"""Pictures that only probes show."""
