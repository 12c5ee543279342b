import json

import pytest
import torch
from transformers import AutoModelForTokenClassification

from regraft.errors import OutputError, TaskError
from regraft.tasks import saving
from regraft.tasks.classification import MeanPooledClassifier, reads_by_mean
from regraft.tasks.narrowing import Narrowing
from regraft.tasks.task import load_headed
from regraft.vocab.tasks import Classification, Coding, Tagging, load_task, save_task, start_model

TASKS = {"tagging": Tagging, "coding": Coding, "classification": Classification}


@pytest.mark.parametrize("name", ["base", "k-tokeniser"])
@pytest.mark.parametrize("kind", list(TASKS))
def test_what_is_loaded_says_what_was_saved(checkpoint, subject, data, tmp_path, kind, name):
    task, arm, examples = TASKS[kind].of(data[kind], 48), subject.arm(name), data[kind].test
    if kind == "coding":
        task.threshold, task.chunk = 0.35, 16
    model = start_model(task, checkpoint, subject.prepare(arm, 0), 1).eval()
    features = task.encode(arm.encoder, examples)
    save_task(task, model, arm.encoder, tmp_path / "out")
    again, loaded, encoder = load_task(tmp_path / "out")
    assert (again.kind, again.labels, again.max_length) == (kind, task.labels, 48)
    assert again.encode(encoder, examples) == features
    with torch.no_grad():
        batches = [side.collate(features) for side in (task, again)]
        torch.testing.assert_close(model(**batches[0])["logits"], loaded(**batches[1])["logits"])
    assert (again.count(again.predict(loaded, features), examples) == task.count(task.predict(model, features), examples)).all()
    if kind == "tagging":
        assert AutoModelForTokenClassification.from_pretrained(tmp_path / "out").config.id2label == dict(enumerate(task.labels))


def test_a_model_read_by_its_mean_is_saved_too(folder, checkpoint, subject, data, tmp_path):
    from transformers import AutoModel

    task, arm = Classification.of(data["classification"]), subject.arm("base")
    assert not reads_by_mean(checkpoint)
    model = MeanPooledClassifier(load_headed(AutoModel, checkpoint), len(task.labels)).eval()
    features = task.encode(arm.encoder, data["classification"].test)
    save_task(task, model, arm.encoder, tmp_path / "out")
    loaded = load_task(tmp_path / "out")[1]
    assert isinstance(loaded, MeanPooledClassifier)
    assert task.predict(loaded, features) == task.predict(model, features)
    (tmp_path / "out" / "head.safetensors").write_bytes(b"no")
    with pytest.raises(TaskError, match="not the head of this model"):
        load_task(tmp_path / "out")


def test_mean_over_real_tokens_is_what_is_read(checkpoint):
    from transformers import AutoModel

    model = MeanPooledClassifier(load_headed(AutoModel, checkpoint), 3).eval()
    ids, mask = torch.tensor([[2, 9, 8, 3], [2, 7, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    with torch.no_grad():
        alone = model.encoder(input_ids=ids[1:, :3]).last_hidden_state[0].mean(0)
        torch.testing.assert_close(model(ids, mask)["logits"][1], model.score(alone))


def test_sentence_encoders_are_known_by_their_files(tmp_path):
    class Folder:
        root = tmp_path

    assert not reads_by_mean(Folder)
    (tmp_path / "modules.json").write_text(json.dumps([{"path": "", "type": "T"}, {"path": "1_Pooling", "type": "models.Pooling"}]))
    assert not reads_by_mean(Folder)
    (tmp_path / "1_Pooling").mkdir()
    for config, wanted in (({"pooling_mode_mean_tokens": True}, True), ({"pooling_mode": "mean"}, True), ({"pooling_mode": "cls"}, False)):
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(config))
        assert reads_by_mean(Folder) is wanted


def test_what_cannot_be_saved_or_loaded_says_why(checkpoint, subject, data, tmp_path):
    task, arm = Tagging.of(data["tagging"]), subject.arm("base")
    model = start_model(task, checkpoint, None, 0)
    Narrowing.of(task, task.encode(arm.encoder, data["tagging"].test)).narrow(model)
    with pytest.raises(TaskError, match="without Narrowing"):
        save_task(task, model, arm.encoder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(TaskError, match=r"no fine-tuned model \(FileNotFoundError: task.json\)"):
        load_task(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(OutputError):
        save_task(task, start_model(task, checkpoint, None, 0), arm.encoder, tmp_path / "full")


def test_a_tokenizer_of_a_kind_that_is_not_imported_is_refused(checkpoint, subject, data, tmp_path, monkeypatch):
    task, arm = Tagging.of(data["tagging"]), subject.arm("k-tokeniser")
    model = start_model(task, checkpoint, subject.prepare(arm, 0), 0)
    save_task(task, model, arm.encoder, tmp_path / "out")
    assert type(load_task(tmp_path / "out")[2]) is type(arm.encoder)
    monkeypatch.setattr(saving, "ENCODERS", {})
    with pytest.raises(TaskError, match=r"k_tokeniser.*import the module that defines it"):
        load_task(tmp_path / "out")
