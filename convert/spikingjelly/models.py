"""A model's plan: how it takes its input is tried, what it is made of read, and the plan proved on other images than it was read from."""

from __future__ import annotations

import torch
from torch import nn

from spikegate.convert.spikingjelly import counting, nodes, verifying
from spikegate.convert.spikingjelly.importable import check_state, unwrapped
from spikegate.convert.spikingjelly.plan import Plan, Problem
from spikegate.convert.spikingjelly.running import FORMS, Failed, recorded, reset, shaped, survey
from spikegate.convert.spikingjelly.signals import alike
from spikegate.convert.spikingjelly.tracing import Reader
from spikegate.errors import DeployError

SAME = "a net on chip is the same for every image: leave that out"
SPIKING = 0.3  # share of the pixels of made up frames that are 1
OTHERS = 3  # images of the proof: another number than the plan is read from


def read(model: nn.Module, images: torch.Tensor, timesteps: int | None, form: str | None = None) -> tuple[Plan, nn.Module, str]:
    """The plan of a model, from a run on a few float images [B, C, H, W], or frames of events [B, T, 2, H, W] of 0 and 1; also the
    model without wrappers, and the input's form.

    `form` says what one call of the model takes: "image" [B, C, H, W] for all timesteps, "sequence" [T, B, C, H, W], or
    "step", one timestep of a model in step mode 's'. Left out, it is the first that can be read. Frames are taken as "events",
    [T, B, 2, H, W].

    Raises
    ------
    DeployError
        Listing every module and operation that cannot be imported, by path, each with a hint.
    """
    model = unwrapped(model)
    name = type(model).__name__
    check_state(model.state_dict(), name)
    if not any(nodes.is_node(m) for m in model.modules()):
        raise DeployError(name, "has no spiking neurons", "give a model with SpikingJelly's IFNode, LIFNode or ParametricLIFNode")
    if form is not None and form not in FORMS:
        raise DeployError("--form", f"{form!r} is none of {', '.join(FORMS)}", "leave it out, and it is tried")
    if images.dim() == 5:
        form, timesteps = "events", images.shape[1]
        if not bool(((images == 0) | (images == 1)).all()):
            hint = "bin them with most = 1, and give pixels as they are: a pixel of a frame is a spike"
            raise DeployError("recordings", "hold other values than 0 and 1", hint)
    elif form == "events":
        raise DeployError("--form", "events are given for images", "use a data set of events")
    found: list[tuple[Plan, str, list[Problem]]] = []
    failures: list[Failed] = []
    for each in (form,) if form else ("image", "sequence"):
        if each != "image" and timesteps is None and not form and found:
            continue
        try:
            found.append(_one(model, images, timesteps, each, form is None))
        except Failed as e:
            failures.append(e)
            continue
        if not found[-1][2]:
            break
    if not found and form == "events":
        hint = "its forward must take all frames at once, in step mode 'm' or by a loop over axis 0; check their size, too"
        raise DeployError(name, f"does not take frames [T, B, 2, H, W] ({failures[0]})", hint)
    if not found:
        what = f"takes neither images [B, C, H, W] nor [T, B, C, H, W] ({failures[0]})"
        raise DeployError(name, what, "its forward must take one of them; check the image size, too")
    plan, form, problems = min(found, key=lambda f: len(f[2]))
    problems = problems or _proved(model, plan, images, form)
    if problems:
        _raise(model, problems)
    return plan, model, form


def _one(model: nn.Module, images: torch.Tensor, timesteps: int | None, form: str, tried: bool) -> tuple[Plan, str, list[Problem]]:
    """What can be read of the model when it takes its input in this form."""
    expected, steps = survey(model, shaped(images, form, timesteps or 1))
    by_step = set(expected.values()) == {1} and not any(nodes.multi_step(m) for m in model.modules() if nodes.is_node(m))
    if tried and form == "image" and by_step:
        form = "step"
    if form != "image" and timesteps is None:
        raise DeployError("--timesteps", f"the model takes its input by {form} and does not say how often", "give --timesteps")
    reset(model)
    reader = Reader(model, len(images), steps, expected, events=form == "events")
    reader.run(shaped(images, form, timesteps or 1))
    reset(model)
    reader.problems += counting.problems(reader.plan)
    if form == "step":
        reader.plan.timesteps = int(timesteps or 1)
    if not steps:
        reader.problems.append(Problem("forward", "calls no neurons", "start with a layer and neurons"))
    if timesteps is not None and form in ("image", "events") and steps != timesteps:
        reader.problems.append(Problem("--timesteps", f"the model runs {steps}, not {timesteps}", "leave the option out"))
    return reader.plan, form, reader.problems


def _proved(model: nn.Module, plan: Plan, images: torch.Tensor, form: str) -> list[Problem]:
    """What differs when the model is read again, on other images and a batch of another size, or between its spikes and the plan's."""
    seed = torch.Generator().manual_seed(0)
    low, high = float(images.min()), float(images.max())
    noise = torch.rand(OTHERS - 1, *images.shape[1:], generator=seed)
    noise = (noise < SPIKING).float() if form == "events" else noise * (high - low) + low
    others = torch.cat([images[:1].flip(-1), noise.to(images.dtype)])
    try:
        again, spikes, scores, problems = recorded(model, others, form, plan.timesteps)
    except Failed as e:
        what = f"its forward fails on another batch ({e})"
        return [Problem("forward", what, "it must take any number of images")]
    if problems:
        return problems
    for name in dict.fromkeys([*plan.layers, *again.layers]):
        if not alike(plan.layers.get(name), again.layers.get(name)):
            what = "is another layer for other images: the forward decides by values, or uses random numbers"
            return [Problem(name, what, SAME)]
    if not alike(plan.head, again.head):
        return [Problem("output", "reads other layers, or weighs them otherwise, for other images", SAME)]
    return verifying.check(plan, spikes, others, scores)


def _raise(model: nn.Module, problems: list[Problem]) -> None:
    hint = getattr(model, "import_hint", "change them and train again")
    if len(problems) == 1:
        p = problems[0]
        raise DeployError(p.where, p.what, p.hint)
    lines = "".join(f"\n  - {p.where}: {p.what} ({p.hint})" for p in problems)
    raise DeployError(type(model).__name__, f"{len(problems)} things cannot be imported:{lines}", hint)
