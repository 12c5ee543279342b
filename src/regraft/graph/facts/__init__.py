"""Facts of a knowledge graph (head, relation, tail), learned and asked."""

import os

import platformdirs

# PyKEEN makes its cache folder when it is imported, by default in the home folder itself
os.environ.setdefault("PYSTOW_HOME", platformdirs.user_cache_dir("regraft"))
