"""Rows of clicks: files of many kinds as blocks of columns, and ids on disk."""
