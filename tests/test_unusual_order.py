"""Ordinary use in unusual order: gone back, taken again, waiting, masked, moved, held; each is right or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MemoryStore, clones, same
from torch import Tensor

from analysis import TrajectoryWriter, manifest
from neurossl import (
    Checkpointer,
    Credit,
    FeedforwardPathway,
    Fixation,
    InputPopulation,
    Moment,
    Network,
    Neuromodulation,
    NeuronRecorder,
    NeurosslError,
    Parameters,
    PerformanceRecorder,
    Population,
    Recorder,
    Rule,
    Saccade,
    SignalRecorder,
    Simulation,
    Synapses,
    UpdateRecorder,
    WeightRecorder,
    Weights,
    make_rule,
    mlp,
)
from neurossl.anatomy import LocalFields, MirrorPathway
from neurossl.errors import EventError, NetworkError, OptionError, TrajectoryError
from neurossl.plasticity import Contrastive, Local
from neurossl.plasticity.homeostasis import Homeostasis
from neurossl.stimuli import FixationSequence, ViewPairs, load_images


def pairs(moments: int = 4, seed: int = 0) -> ViewPairs:
    return ViewPairs(load_images("digits"), observers=8, moments=moments, seed=seed)


def made(rule: Any = "clapp++gap", **options: Any) -> Simulation:
    return Simulation(mlp((1, 16, 16), [12, 8]), rule, **{"device": "cpu", "seed": 1, **options})


class Scaled(Rule):
    """Hebb times a number."""

    def __init__(self, by: float = 1.0) -> None:
        self.by = by

    def credit_at(self, site: Any, moment: Moment) -> Tensor:
        return self.by * site.activity


# Several input populations.


@pytest.mark.parametrize("sizes", [(6, 10), (8, 7)])
def test_values_never_fall_on_the_neighbour_of_their_input_population(sizes: tuple[int, int]) -> None:
    inputs = InputPopulation("l", 8), InputPopulation("m", 8), Population("A", 4)
    network = Network(*inputs, FeedforwardPathway("l", "A"), FeedforwardPathway("m", "A"))
    shown = {"l": torch.rand(4, sizes[0]), "m": torch.rand(4, sizes[1])}
    with pytest.raises(NetworkError, match=r"stimulus of '[lm]': expected 8 values per row"):
        Simulation(network, "clapp++gap", device="cpu").run([Moment(Fixation(shown, [2, 3, 0, 1]), Saccade([[1, 2, 3, 0]]))])


def test_a_mapping_of_one_convolutional_input_is_taken_in_its_shape() -> None:
    from neurossl import convolutional

    simulation = Simulation(convolutional((1, 8, 8), [(4, False)]), "clapp++gap", device="cpu")
    maps = torch.rand(3, 1, 8, 8)
    assert torch.equal(simulation.respond({"retina": maps})["V1"], simulation.respond(maps)["V1"])


# Going back and on.


def test_a_restored_state_brings_back_rates_and_what_was_still_to_happen() -> None:
    simulation = made()
    simulation.at(0.75)(lambda s: s.lesion("V1->V2"))
    simulation.every(0.75)(lambda s: called.append(s.time))
    called: list[float] = []
    before = simulation.state()
    simulation.run(pairs(4))
    first, weights = list(called), clones(simulation.weights)
    assert first
    simulation.synapses.set(lr=0.0)
    called.clear()
    simulation.restore(before).run(pairs(4))
    assert called == first
    assert [e["what"] for e in simulation.interventions if e["what"] == "lesion"] == ["lesion"]
    assert all(same(clones(simulation.weights)[name], w) for name, w in weights.items())
    called.clear()
    simulation.reset()
    simulation.run(pairs(4))
    assert called == first


def test_what_is_planned_for_a_time_that_never_comes_is_told() -> None:
    simulation = made()
    simulation.at(5000)(lambda s: s.lesion("V1->V2"))
    with pytest.warns(UserWarning, match=r"not done: at 5000 .*; the run ended at 1 s \(times are seconds\)"):
        simulation.run(pairs(2))


def test_a_fixation_that_waits_keeps_its_context_through_a_state() -> None:
    class Delayed(Local):
        """CLAPP whose neuromodulator arrives in a moment of its own."""

        def __init__(self) -> None:
            super().__init__(Contrastive())
            self.awaits = (Fixation, Neuromodulation)

    stream = list(FixationSequence(load_images("digits"), observers=6, fixations_per_object=3, moments=6))
    plain, stopped = made(Delayed()), made(Delayed())
    for number, moment in enumerate(stream):
        for part in (moment, Moment(Neuromodulation(torch.ones(6)))):
            plain.step(part)
            if number == 3:
                stopped.restore(stopped.state())
            stopped.step(part)
    assert all(same(clones(stopped.weights)[name], w) for name, w in clones(plain.weights).items())


def test_gone_back_a_run_writes_checkpoints_of_its_own_and_forgets_those_of_the_future(tmp_path: Path) -> None:
    simulation = made(checkpoints=Checkpointer(every=2, path=tmp_path / "c"))
    simulation.run(pairs(2))
    early = simulation.state()
    simulation.run(pairs(6, 1))
    simulation.restore(early)
    simulation.run(pairs(2, 2))
    path = Path(simulation.checkpoint())
    assert path.exists()
    assert sorted(p.stem for p in (tmp_path / "c").glob("*.json")) == ["0000000004"]
    assert Simulation.from_checkpoint(tmp_path / "c", device="cpu").moment == 4


def test_two_simulations_do_not_share_a_folder_of_checkpoints(tmp_path: Path) -> None:
    made(checkpoints=Checkpointer(every=2, path=tmp_path / "c")).run(pairs(2))
    with pytest.raises(OptionError, match="holds those of another simulation"):
        made(checkpoints=Checkpointer(every=2, path=tmp_path / "c")).run(pairs(2))


def test_a_run_that_goes_on_from_an_earlier_checkpoint_can_be_gone_on_with_again(tmp_path: Path) -> None:
    with TrajectoryWriter(tmp_path / "run") as store:
        made(store=store, recorders=[NeuronRecorder({"V1": 3}, 1)], checkpoints=Checkpointer(every=1, keep=9)).run(pairs(8))
    for moment, more in ((4, 2), (None, 3)):
        options = {"recorders": [NeuronRecorder({"V1": 3}, 1)], "checkpoints": Checkpointer(every=1, keep=9)}
        with TrajectoryWriter.reopen(tmp_path / "run") as store:
            simulation = Simulation.from_checkpoint(tmp_path / "run", moment=moment, store=store, device="cpu", **options)
            for number in range(more):
                simulation.step(pairs(8)[number])
                simulation.checkpoint()
    assert simulation.moment == 9


# What a run was.


@pytest.mark.parametrize("how", ["instance", "composed", "optimiser"])
def test_another_rule_or_optimiser_than_the_stored_one_is_never_made(tmp_path: Path, how: str) -> None:
    from neurossl import RULES, register

    def adamw(parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.1)

    rule = {"instance": lambda: Scaled(-5.0), "composed": lambda: Local(Contrastive(contrast="phyll", steepness=3.0))}
    register("test-scaled")(Scaled)
    try:
        synapses = Synapses(adamw) if how == "optimiser" else Synapses()
        simulation = made(rule.get(how, lambda: "clapp++gap")(), synapses=synapses)
        simulation.checkpoints = Checkpointer(every=2, path=tmp_path)
        simulation.run(pairs(2))
        if how == "instance":
            again = Simulation.from_checkpoint(tmp_path, device="cpu").rule
            assert isinstance(again, Scaled)
            assert again.by == -5.0
            assert simulation.rule.describe()["rule_options"] == {"by": -5.0}
        else:
            with pytest.raises(OptionError, match=r"pass (rule|synapses)="):
                Simulation.from_checkpoint(tmp_path, device="cpu")
    finally:
        del RULES["test-scaled"]
    with pytest.raises(OptionError, match="another rule"):
        made(Scaled(1.0)).restore(made(Scaled(2.0)).state())


def test_weights_that_were_not_recorded_are_not_made_up(tmp_path: Path) -> None:
    ends = InputPopulation("r", (1, 16, 16)), Population("V1", 16), Population("V2", 8)
    network = Network(*ends, FeedforwardPathway("r", "V1", plastic=False), FeedforwardPathway("V1", "V2"))
    given = {"r->V1": Parameters(torch.ones(16, 256), torch.zeros(16))}
    for name, weights in (("drawn", None), ("given", given)):
        with TrajectoryWriter(tmp_path / name) as store:
            simulation = Simulation(
                network, "clapp++gap", weights=weights, store=store, recorders=[WeightRecorder(2)], device="cpu"
            )
            simulation.run(pairs(3))
        if name == "drawn":
            assert torch.equal(Weights.from_run(tmp_path / name)["r->V1"].weight, simulation.weights["r->V1"].weight)
    with pytest.raises(TrajectoryError, match="'r->V1' was not recorded, and it was given or lesioned"):
        Weights.from_run(tmp_path / "given")
    with TrajectoryWriter(tmp_path / "some") as store:
        made(store=store, recorders=[WeightRecorder(2, pathways=["V1->V2"])]).run(pairs(3))
    with pytest.raises(TrajectoryError, match="'retina->V1' was not recorded, and it has learned"):
        Weights.from_run(tmp_path / "some")


def test_what_is_done_before_the_first_run_is_stored(tmp_path: Path) -> None:
    with TrajectoryWriter(tmp_path / "run") as store:
        simulation = made(store=store)
        simulation.lesion("V1->V2")
        simulation.silence("V1")
        simulation.run(pairs(2))
    assert [entry["what"] for entry in manifest(tmp_path / "run")["interventions"]] == ["lesion", "silence"]


# Nobody learns, nothing moves.


def test_weights_rest_when_nobody_is_to_learn_whatever_adamw_remembers() -> None:
    simulation = made()
    online = FixationSequence(load_images("digits"), observers=8, fixations_per_object=3, moments=4)
    simulation.run(online)
    before = clones(simulation.weights)
    simulation.run([online[0]])  # the first of a run has nothing to be compared with
    assert all(same(clones(simulation.weights)[name], w) for name, w in before.items())
    taught = Simulation(mlp((1, 16, 16), [12], 10), "bp", device="cpu").run(pairs(3))
    before = clones(taught.weights)
    taught.run([m.with_events(Neuromodulation(torch.zeros(16), torch.ones(16))) for m in pairs(2)])
    assert all(same(clones(taught.weights)[name], w) for name, w in before.items())
    with pytest.raises(EventError, match=r"Neuromodulation\.gain: expected a gain per row, got None"):
        Neuromodulation(None)


def test_signs_are_kept_only_while_they_are_asked_for() -> None:
    simulation = made(synapses=Synapses(lr=0.1, bounds="sign"))
    signs = simulation.weights["retina->V1"].weight.sign()
    simulation.run(pairs(3))
    assert not bool((simulation.weights["retina->V1"].weight * signs < 0).any())
    simulation.synapses.set(bounds=None)
    simulation.run(pairs(6, 1))
    assert bool((simulation.weights["retina->V1"].weight * signs < 0).any())


@pytest.mark.parametrize("how", ["silence", "clamp"])
def test_backprop_sends_no_credit_through_what_an_experimenter_holds(how: str) -> None:
    simulation = Simulation(mlp((1, 16, 16), [12, 10, 8], 10, "tanh"), "bp", Synapses("sgd", lr=0.1), device="cpu")
    simulation.silence("V2") if how == "silence" else simulation.clamp("V2", 0.3)
    before = clones(simulation.weights)
    simulation.run(pairs(2))
    moved = {name for name, w in clones(simulation.weights).items() if not same(before[name], w)}
    assert moved == {"V2->V3", "V3->readout"}


def test_a_gain_scales_every_form_of_decay_alike() -> None:
    gain = torch.tensor([1.0, 0.5, 0.0, 0.5])
    per_row = torch.rand(4, 3)
    for decay in (per_row, per_row[0], torch.tensor(0.2)):
        found = Credit(decay=decay).gained(gain).decay
        assert found is not None
        expected = decay * gain[:, None] if decay.ndim == 2 else decay * 0.5
        assert torch.allclose(found, expected)


def test_dales_law_holds_for_mirrors_and_needs_an_activity_that_is_not_negative() -> None:
    network = Network(
        InputPopulation("r", 6), Population("V1", 8), Population("V2", 4, inhibitory=0.5), Population("V3", 3, "linear")
    )
    network.add(*(FeedforwardPathway(a, b) for a, b in (("r", "V1"), ("V1", "V2"), ("V2", "V3"))))
    mirror = MirrorPathway(network.feedforward["V1->V2"])
    network.add(mirror)
    weight = Weights.draw(network, 0)[mirror.name].weight
    signs = torch.from_numpy(network.populations["V2"].signs)
    assert bool((weight * signs >= 0).all())
    with pytest.raises(NetworkError, match="inhibitory neurons would excite"):
        Population("V1", 16, "tanh", inhibitory=0.25)


def test_homeostasis_reaches_biases_of_every_connectivity_or_says_that_it_cannot() -> None:
    for connectivity in (LocalFields(3), None):
        ends = InputPopulation("r", (1, 6, 6)), Population("V1", (2, 6, 6), "linear")
        network = Network(*ends, FeedforwardPathway("r", "V1", connectivity))
        synapses = Synapses("sgd", lr=0.0, after=[Homeostasis(0.5, rate=1.0)])
        simulation = Simulation(network, Scaled(), synapses, device="cpu")
        before = simulation.weights["r->V1"].bias.clone()
        x = torch.rand(4, 1, 6, 6)
        z = simulation.respond(x)["V1"].mean(0).flatten()
        simulation.run([Moment(Fixation(x))])
        assert torch.allclose(simulation.weights["r->V1"].bias, before + 0.5 - z, atol=1e-6)


# Recorders.


def test_masks_and_slices_choose_what_they_say() -> None:
    store = MemoryStore()
    mask = np.zeros(12, bool)
    mask[[3, 7]] = True
    recorders = [
        NeuronRecorder({"V1": mask, "V2": slice(2, 4)}, 1),
        WeightRecorder(1, ["V1->V2"], index=np.arange(96) % 48 == 5),
    ]
    made(store=store, recorders=recorders).run(pairs(1))
    chosen = {
        name: coords["neuron"][1].tolist() for (kind, name), (_, coords) in store.declared.items() if kind == "neurons"
    }
    assert chosen == {"V1": [3, 7], "V2": [2, 3]}
    assert store.declared["weights", "V1->V2"][1]["synapse"][1].tolist() == [5, 53]


@pytest.mark.parametrize(
    ("recorder", "says"),
    [
        (lambda: WeightRecorder(1, index=np.zeros(5, bool)), "expected whole numbers from 0"),
        (lambda: WeightRecorder(1, index=2.5), "expected whole numbers from 0"),  # type: ignore[arg-type]
        (lambda: WeightRecorder(1, index=True), "expected a whole number"),
        (lambda: NeuronRecorder({"V1": [True, False]}, 1), "expected whole numbers from 0"),
        (lambda: NeuronRecorder({"V1": [1.5]}, 1), "expected whole numbers from 0"),  # type: ignore[list-item]
        (lambda: NeuronRecorder({"V1": "a"}, 1), "expected whole numbers from 0"),
        (lambda: Recorder(), "would record nothing"),
        (lambda: Recorder(lambda now: {}), "returns nothing to record"),
        (lambda: PerformanceRecorder(1, probe_every=2), "would record nothing"),
        (lambda: PerformanceRecorder(1, measures="knn_accuracy"), "are lists of names"),
        (lambda: SignalRecorder(["score", "typo"], 1), "has no signal 'typo' here"),
        (lambda: SignalRecorder("score", 1, ["V1", "retina"]), "has no signal 'score' at 'retina'"),
        (lambda: UpdateRecorder(1, step="a"), "step must be a number"),  # type: ignore[arg-type]
    ],
)
def test_a_recorder_that_stores_something_else_or_nothing_says_so(recorder: Callable[[], Recorder], says: str) -> None:
    with pytest.raises(NeurosslError, match=says):
        made(store=MemoryStore(), recorders=[recorder()]).run(pairs(2))


def test_a_quantity_from_a_recorder_is_not_stored_in_another_unit() -> None:
    from brian2 import ms

    recorder = Recorder(lambda now: {"V1": {"latency": 5 * ms}}, units={"latency": "ms"})
    with pytest.raises(OptionError, match=r"'latency': expected plain numbers without a unit, got a quantity in s"):
        made(store=MemoryStore(), recorders=[recorder]).run(pairs(1))


def test_a_recorder_takes_nothing_along_to_another_simulation_and_comes_back_to_its_own(tmp_path: Path) -> None:
    recorder = UpdateRecorder(1)
    first, second = made(store=MemoryStore(), recorders=[recorder]), made(store=(store := MemoryStore()))
    first.run(pairs(2))
    first.remove_recorder(recorder)
    second.add_recorder(recorder)
    second.run(pairs(1, 3))
    stability = [values["stability"] for kind, *_, values in store.records if kind == "alignment"]
    assert stability
    assert np.isnan(stability).all()
    with TrajectoryWriter(tmp_path / "run") as writer:
        weights = WeightRecorder(1)
        simulation = made(store=writer, recorders=[weights])
        simulation.run(pairs(1))
        simulation.remove_recorder(weights)
        simulation.run(pairs(1))
        simulation.add_recorder(weights)
        simulation.run(pairs(1))


def test_recorders_of_a_simulation_that_was_refused_may_be_given_again() -> None:
    recorder, store = WeightRecorder(1), MemoryStore()
    with pytest.raises(OptionError, match="no pathway has such a name"):
        made(synapses=Synapses(pathways={"typo": {"lr": 1.0}}), store=store, recorders=[recorder])
    made(store=store, recorders=[recorder]).run(pairs(1))


@pytest.mark.parametrize("way", ["numpy", "data"])
def test_a_recorder_that_changes_weights_past_their_version_is_refused(way: str) -> None:
    def touched(now: Any) -> dict[str, dict[str, float]]:
        weight = now.weights["V1->V2"].weight
        (weight.numpy() if way == "numpy" else weight.data)[:] = 0
        return {"V1": {"x": 1.0}}

    with pytest.raises(OptionError, match="changes the weights of 'V1->V2': a recorder only looks"):
        made(store=MemoryStore(), recorders=[Recorder(touched)]).run(pairs(1))


def test_a_silent_moment_still_has_its_signals() -> None:
    store = MemoryStore()
    simulation = made(store=store, recorders=[SignalRecorder(["score"], 1)])
    simulation.run([m.with_events(Neuromodulation(torch.zeros(16))) for m in pairs(2)])
    assert {kind for kind, *_ in store.records} == {"signals"}


def test_a_loss_is_that_of_what_the_rule_remembers_and_probes_are_exact_under_autocast() -> None:
    class Counting(Rule):
        """Its loss is the number of moments that it remembers."""

        state = {"seen": "scalar"}

        def credit_at(self, site: Any, moment: Moment) -> Credit:
            return Credit(site.activity, state={"seen": site.state["seen"] + 1})

        def evaluate(self, scope: Any, moment: Moment) -> dict[str, Credit]:
            return {site.population: Credit(losses={"loss": site.state["seen"]}) for site in scope.sites()}

    store = MemoryStore()
    made(Counting(), store=store, recorders=[PerformanceRecorder(1)]).run(pairs(3))
    assert [values["loss"] for _, name, *_, values in store.records if name == "V1"] == [1.0, 2.0, 3.0]
    found = []

    def summed(now: Any) -> dict[str, dict[str, float]]:
        return {"V1": {"probe_accuracy": float(now.respond(torch.ones(2, 256))["V1"].sum())}}

    for cast in (False, True):
        store = MemoryStore()
        with torch.autocast("cpu", enabled=cast):
            made(store=store, recorders=[PerformanceRecorder(1, summed)]).run(pairs(1))
        found.append([values["probe_accuracy"] for *_, values in store.records if "probe_accuracy" in values])
    assert found[0] == found[1]


# One line for what cannot be.


class Weird(Rule):
    """Credit of a form of one's own."""

    def __init__(self, said: Any) -> None:
        self.said = said

    def credit_at(self, site: Any, moment: Moment) -> Any:
        return self.said(site)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: made().restore(None),  # type: ignore[arg-type]
        lambda: made().restore({}),  # type: ignore[arg-type]
        lambda: made(weights={"retina->V1": torch.ones(2, 2)}),
        lambda: made(weights={"retina->V1": torch.nn.Linear(2, 2)}),
        lambda: made(weights={"retina->V1": (1, 2, 3)}),
        lambda: made().weights.set("retina->V1", None),
        lambda: made().weights.set("retina->V1", "a"),
        lambda: made().weights.load_state_dict({"retina->V1.weight": "a"}),
        lambda: made().weights.save("/"),
        lambda: Synapses(pathways={"*": 1e-3}),  # type: ignore[dict-item]
        lambda: Synapses(pathways=["*"]),  # type: ignore[arg-type]
        lambda: Synapses(pathways={1: {"lr": 1.0}}),  # type: ignore[dict-item]
        lambda: Synapses(betas=(0.9, "a")),  # type: ignore[arg-type]
        lambda: Synapses(bounds=("a", 1)),  # type: ignore[arg-type]
        lambda: Synapses(bounds=(float("nan"), 1)),
        lambda: Synapses(after=[Homeostasis]),
        lambda: Synapses(torch.optim.SGD, lr=0.1),
        lambda: Synapses(torch.optim.SGD).set(lr=0.1),
        lambda: Synapses().set(1e-3),  # type: ignore[arg-type]
        lambda: Synapses().scale(float("nan")),
        lambda: Homeostasis(float("nan")),
        lambda: made(about=[1]),
        lambda: made(device=0),
        lambda: made(checkpoints=5),
        lambda: made(execution="a"),
        lambda: made(Weird(lambda site: Credit(decay=0.1))).run(pairs(1)),  # type: ignore[arg-type]
        lambda: made(Weird(lambda site: Credit(synaptic=site.activity))).run(pairs(1)),
        lambda: made(Weird(lambda site: Credit(site.activity, decay=torch.full((12,), float("nan"))))).run(pairs(1)),
        lambda: made().when(lambda: True),  # type: ignore[arg-type,misc]
        lambda: made().at(1.0)(lambda: None),
        lambda: made().run(iter([])),
        lambda: made().run([Moment(Neuromodulation(torch.ones(2))), Moment(Neuromodulation(torch.ones(2)))]),
        lambda: ViewPairs(load_images("digits"), views="default"),  # type: ignore[arg-type]
        lambda: made(make_rule("clapp++gap")).from_checkpoint("nowhere", seed=3),
    ],
)
def test_mistakes_are_told_in_a_line(mistake: Callable[[], Any]) -> None:
    with pytest.raises(NeurosslError) as told:
        mistake()
    assert "\n" not in str(told.value)
