"""A Hugging Face folder of trained weights.

`init/model` gives architecture, tokenizer and chat template; the fit gives fp32 weights under the model's own names (a
tied head stored once). They are loaded strictly: a missing or unexpected tensor is an error, not a warning.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from dante.students.dense_form import Form, as_dense, as_stored
from dante.students.load import load_pretrained
from dante.students.stage import chat_generation_config
from dante.students.trained import load_trained
from dante.text.chat import ChatRenderer
from dante.text.tokenizer import load_tokenizer


def write_model(
    init: Path, trained: Mapping[str, Tensor], where: Path, dtype: torch.dtype, out: Path, form: Form
) -> PreTrainedModel:
    """Writes weights, config, tokenizer, chat template and generation config; returns the model.

    Args:
        init: the folder that training started from: architecture, tokenizer, chat template.
        trained: every parameter once, under the model's own names.
        where: what the weights were read from, for messages.
        dtype: of the written weights.
        out: folder to write to.
        form: in which a dense student of a mixture is stored; others have one form.

    Raises:
        DanteError: the weights do not fit the model, or are not finite.
    """
    model = as_dense(load_pretrained(init, torch.float32))
    load_trained(model, trained, where)
    model = as_stored(model, form)
    torch.nn.Module.to(model, dtype)
    tokenizer = load_tokenizer(init)
    # A chat student that ended only at the end of text would run on after every answer.
    model.generation_config = chat_generation_config(model, ChatRenderer(tokenizer))
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return model
