"""Data and models by name: published files, and what installed packages carry."""

from regraft.datasets.registry import DataFile, DataSet, data_sets, fetch, files, list_data_sets, list_files

__all__ = ["DataFile", "DataSet", "data_sets", "fetch", "files", "list_data_sets", "list_files"]
