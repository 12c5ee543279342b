"""Where rows come from: arrays and files, a checkpoint's table, hidden states of a model, a module of a model."""
