"""The simulation: events online and batched, biological time, recorders that change nothing, divergence that is named."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from brian2 import ms, mV, second
from conftest import MemorySink, clones, dense_network, full_moment, map_network, same
from neurossl.architectures import mlp
from neurossl.network import Network
from torch import Tensor

from neurossl.errors import DivergenceError, EventError, LocalityError, OptionError
from neurossl.events import Fixation, Moment, Neuromodulation, Saccade, Teaching
from neurossl.generators import Generators
from neurossl.plasticity import NEEDS, RULES, Contrastive, Local, Rule, Synapses, make_rule, register
from neurossl.recorders import ActivityRecorder, PerformanceRecorder, UpdateRecorder, WeightRecorder
from neurossl.simulation import PHASES, Simulation
from neurossl.units import seconds


def moments(network: Network, count: int = 6, **options: Any) -> list[Moment]:
    return [full_moment(network, seed=number, **options) for number in range(count)]


class Collecting(Rule):
    """Another rule, whose proposals are kept."""

    def __init__(self, inner: Rule) -> None:
        self.inner = inner
        self.name, self.needs, self.awaits = inner.name, inner.needs, inner.awaits
        self.kept: list[dict[str, Tensor]] = []

    def wire(self, network: Network) -> Network:
        return self.inner.wire(network)

    def propose(self, activity: Any, moment: Moment) -> Any:
        found = list(self.inner.propose(activity, moment))
        self.kept.append({p.name: u.weight for p, u in found})
        return iter(found)


@pytest.mark.parametrize("context", ["lateral", "top", "both"])
@pytest.mark.parametrize("contrast", ["hinge", "softplus", "linear"])
def test_online_and_batched_clapp_agree_on_the_same_sequence(context: str, contrast: str) -> None:
    """One observer: look, look again at the object, jump; its mean update is that of one batched moment."""
    generator = torch.Generator().manual_seed(0)
    objects = torch.randn(4, 3, 12, generator=generator, dtype=torch.float64)  # object, fixation, pixels
    online = Collecting(Local(Contrastive(contrast, context)))
    network = dense_network(None)
    simulation = Simulation(network, online, Synapses("sgd", lr=0.0), dtype="float64", device="cpu")
    stream: list[Any] = []
    for number, fixations in enumerate(objects):
        stream += [Saccade()] if number else []
        stream += [Moment(Fixation(view[None]), duration=0.25) for view in fixations]
    simulation.run(stream)
    assert simulation.event == 12
    assert simulation.time == pytest.approx(12 * 0.25 + 3 * 0.25)
    # The same twelve fixations at once: row r is the context of row r + 1, by fixation or by saccade.
    rows = objects.reshape(12, 12)
    following = (torch.arange(12) + 1) % 12
    stays = torch.tensor([1.0, 1, 0] * 4, dtype=torch.float64)
    jumps = torch.tensor([0.0, 0, 1] * 3 + [0, 0, 0], dtype=torch.float64)
    moment = Moment(Fixation(rows, following), Saccade(following[None]), Neuromodulation(stays, jumps))
    batched = Local(Contrastive(contrast, context))
    other = batched.wire(dense_network(None))
    proposed = {p.name: u.weight for p, u in batched.propose(other.sweep(rows), moment)}
    for name, update in proposed.items():
        mean = torch.stack([kept[name] for kept in online.kept]).mean(0)
        assert float(update.abs().max()) > 0
        assert torch.allclose(mean, update, rtol=1e-12, atol=1e-15), name


def test_many_observers_online_are_many_single_observers() -> None:
    generator = torch.Generator().manual_seed(1)
    views = torch.randn(6, 3, 12, generator=generator, dtype=torch.float64)  # fixation, observer, pixels
    jumped = torch.rand(6, 3, generator=generator) < 0.5

    def updates(observers: list[int]) -> list[dict[str, Tensor]]:
        rule = Collecting(make_rule("clapp-dfb"))
        simulation = Simulation(dense_network(None), rule, Synapses("sgd", lr=0.0), dtype="float64", device="cpu")
        simulation.run(Moment(Fixation(views[t, observers]), Saccade(observers=jumped[t, observers])) for t in range(6))
        return rule.kept

    together = updates([0, 1, 2])
    alone = [updates([observer]) for observer in range(3)]
    for t, kept in enumerate(together):
        for name, update in kept.items():
            mean = torch.stack([single[t][name] for single in alone]).mean(0)
            assert torch.allclose(update, mean, rtol=1e-12, atol=1e-15)
    assert all(float(u.abs().max()) == 0 for u in together[0].values()), "the first fixation has no context"


def test_teaching_may_come_after_the_fixation() -> None:
    network, late = dense_network(), dense_network()
    together = Simulation(network, "bp", Synapses("sgd", lr=0.1), dtype="float64", device="cpu")
    apart = Simulation(late, "bp", Synapses("sgd", lr=0.1), dtype="float64", device="cpu")
    for moment in moments(network, 3):
        fixation, teaching = moment.require(Fixation, "test"), moment.require(Teaching, "test")
        together.step(Moment(fixation, teaching))
        apart.step(fixation)
        apart.step(teaching)
    assert same(clones(network), clones(late))
    assert (together.event, apart.event) == (3, 3)
    with pytest.raises(EventError, match="waits for a Teaching event after the Fixation, but got the next Fixation"):
        apart.run([Fixation(torch.zeros(1, 12)), Fixation(torch.zeros(1, 12))])
    with pytest.raises(EventError, match="but the stream ended"):
        Simulation(dense_network(), "bp", dtype="float64", device="cpu").run([Fixation(torch.zeros(1, 12))])


RECORDERS: dict[str, Callable[[MemorySink], Any]] = {
    "weights": lambda sink: WeightRecorder(sink, 2),
    "some weights": lambda sink: WeightRecorder(sink, 1, index=5),
    "updates": lambda sink: UpdateRecorder(sink, 1, keep=True, index=4),
    "activity": lambda sink: ActivityRecorder(sink, 1),
    "performance": lambda sink: PerformanceRecorder(sink, 1, lambda s: {"V1": {"probe_accuracy": 0.5}}, probe_every=2),
}


@pytest.mark.parametrize("rule", ["clapp", "clapp-dfb", "dfa", "pc", "ipc", "ff", "bp"])
@pytest.mark.parametrize("recorder", RECORDERS)
def test_a_recorder_changes_nothing(rule: str, recorder: str) -> None:
    def final(*recorders: Any) -> dict[str, list[Tensor]]:
        made = make_rule(rule)
        network = map_network(4 if "target" in made.needs else None, normalisation=made.normalisation)
        simulation = Simulation(network, made, seed=3, dtype="float32", device="cpu", recorders=recorders)
        return clones(simulation.run(moments(network, 4)).network)

    sink = MemorySink()
    with_recorder, without = final(RECORDERS[recorder](sink)), final()
    assert sink.records
    assert all(same(with_recorder[name], weights) for name, weights in without.items())


def test_the_same_seed_twice_is_identical_and_another_is_not() -> None:
    def run(seed: int) -> tuple[Any, Any]:
        sink = MemorySink()
        recorders = [make(sink) for make in (RECORDERS["updates"], RECORDERS["activity"], RECORDERS["performance"])]
        recorders.append(WeightRecorder(sink, 2, index=7))
        network = mlp(12, [9, 7])
        Simulation(network, "clapp", seed=seed, device="cpu", recorders=recorders).run(moments(dense_network(None)))
        return clones(network), [record[-1] for record in sink.records]

    assert same(run(1), run(1))
    assert not same(run(1)[0], run(2)[0])


def test_weights_are_recorded_at_the_start_after_updates_and_at_the_end(sink: MemorySink) -> None:
    network = dense_network(None)
    start = clones(network)
    recorders = [WeightRecorder(sink, 2)]
    simulation = Simulation(network, "clapp", dtype="float64", device="cpu", recorders=recorders)
    simulation.run(moments(network, 5))
    stored = sink.of("weights", "V1->V2")
    assert list(stored) == [0, 2, 4, 5]
    assert np.array_equal(stored[0]["weight"], start["V1->V2"][0].numpy())
    assert np.array_equal(stored[5]["weight"], network.pathways["V1->V2"].weight.numpy())
    assert sink.declared["weights", "V1->V2"][0] == {"weight": ("post", "pre"), "bias": ("post",)}
    times = {event: (time, seen) for kind, name, event, time, seen, _ in sink.records}
    assert times[4] == (pytest.approx(1.0), 20)


def test_chosen_synapses_are_those_of_the_full_record() -> None:
    def stored(**options: Any) -> tuple[MemorySink, Network]:
        sink, network = MemorySink(), map_network()
        recorder = WeightRecorder(sink, 1, **options)
        Simulation(network, "clapp", dtype="float64", device="cpu", recorders=[recorder]).run(moments(network, 2))
        return sink, network

    full, _ = stored()
    some, _ = stored(index={"V1->V2": [3, 17, 80], "V2->V3": 6}, pathways=["V1->V2", "V2->V3"])
    for name in ("V1->V2", "V2->V3"):
        dims, coords = some.declared["weights", name]
        assert dims["weight"] == ("synapse",)
        place = tuple(coords[axis][1] for axis in ("post", "pre", "ky", "kx"))
        for event, values in some.of("weights", name).items():
            assert np.array_equal(values["weight"], full.of("weights", name)[event]["weight"][place])
    with pytest.raises(OptionError, match=r"expected flat indices from 0 to"):
        stored(index=[10**6])
    with pytest.raises(OptionError, match="no pathway 'V9->V10'"):
        stored(pathways=["V9->V10"])
    with pytest.raises(OptionError, match="every must be"):
        WeightRecorder(MemorySink(), 0)


def test_alignment_of_backprop_with_itself_is_perfect(sink: MemorySink) -> None:
    network = map_network(4)
    recorder = UpdateRecorder(sink, 1, reference=make_rule("bp"), keep=True)
    Simulation(network, "bp", Synapses(lr=1e-3), dtype="float64", device="cpu", recorders=[recorder]).run(
        moments(network, 3)
    )
    for name in network.feedforward:
        for values in sink.of("alignment", name).values():
            assert values["cosine"] == pytest.approx(1, abs=1e-12)
            assert values["relative_error"] < 1e-12
            assert values["sign_agreement"] == 1
            assert values["loss_decrease"] > 0
            assert values["trustworthy"]
        stored = sink.of("updates", name)[2]
        assert np.array_equal(stored["update"], stored["reference_update"])


def test_losses_and_activity_are_recorded(sink: MemorySink) -> None:
    network = dense_network(None, "relu")
    recorders = [PerformanceRecorder(sink, 2), ActivityRecorder(sink, 2)]
    Simulation(network, "clapp", Synapses(lr=1e-2), dtype="float64", device="cpu", recorders=recorders).run(
        [full_moment(network)] * 40
    )
    losses = [v["loss"] for v in sink.of("performance", "V1").values()]
    assert losses[-1] < losses[0]
    last = sink.of("activity", "V2")[40]
    assert 0 <= last["sparseness"] <= 1
    assert 1 <= last["effective_rank"] <= 7


def test_the_active_fraction_is_that_of_the_rows_whose_neuromodulator_is_open(sink: MemorySink) -> None:
    network = dense_network(None, "relu")
    moment = full_moment(network, rows=10, landings=2)
    gain = torch.zeros(10)
    gain[3] = 1
    rule = make_rule("clapp", contrast="softplus")
    recorder = ActivityRecorder(sink, 1)
    simulation = Simulation(network, rule, dtype="float64", device="cpu", recorders=[recorder])
    simulation.run([moment, moment.with_events(Neuromodulation(gain))])
    targets = {int(moment.get(Fixation).partner[3]), *moment.get(Saccade).landing[:, 3].tolist()}
    for population in ("V1", "V2"):
        found = sink.of("activity", population)
        assert found[1]["active_fraction"] == 1, "the softplus has no margin beyond which it is silent"
        assert found[2]["active_fraction"] == pytest.approx(len(targets) / 10)


def test_the_active_fraction_falls_when_scores_pass_the_margin(sink: MemorySink) -> None:
    network = dense_network(None, "relu")
    simulation = Simulation(
        network, "clapp", Synapses(lr=3e-2), dtype="float64", device="cpu", recorders=[ActivityRecorder(sink, 20)]
    )
    simulation.run([full_moment(network)] * 200)
    found = sink.of("activity", "V2")
    assert found[20]["active_fraction"] > found[200]["active_fraction"]


def test_interventions_happen_in_biological_time() -> None:
    network = dense_network(None)
    simulation = Simulation(network, "clapp", dtype="float64", device="cpu")
    seen: list[tuple[str, float]] = []
    simulation.at(500 * ms)(lambda s: seen.append(("once", s.time)))
    simulation.every(0.75)(lambda s: seen.append(("often", s.time)))
    simulation.at(1 * second)(lambda s: s.network.pathways["V1->V2"].lesion())
    simulation.run(Moment(*m, duration=0.25) for m in moments(network, 10))
    assert seen == [("once", 0.5), ("often", 0.75), ("often", 1.5), ("often", 2.25)]
    assert float(network.pathways["V1->V2"].weight.abs().max()) == 0
    for wrong in (3 * mV, -1, float("nan"), "soon"):
        with pytest.raises(OptionError, match="expected a"):
            simulation.at(wrong)
        with pytest.raises(OptionError, match="expected a"):
            Moment(duration=wrong)
    with pytest.raises(OptionError, match="expected a function"):
        simulation.at(1)("lesion")  # type: ignore[arg-type]
    assert seconds(250 * ms) == Moment(duration=250 * ms).duration == 0.25


def test_phases_and_progress_are_said() -> None:
    assert list(PHASES) == ["intervene", "present", "settle", "modulate", "update", "record"]
    network = dense_network(None)
    seen: list[tuple[int, int | None]] = []
    simulation = Simulation(network, "clapp", dtype="float64", device="cpu")
    assert list(simulation.phases) == list(PHASES)
    simulation.run(moments(network, 3), report=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert "3 moments" in repr(simulation)
    with pytest.raises(OptionError, match="report"):
        simulation.run([], report="loud")


def test_divergence_names_moment_population_and_pathway() -> None:
    network = dense_network(transfer="relu")
    stream = moments(network, 30)
    simulation = Simulation(network, "bp", Synapses("sgd", lr=1e30), dtype="float32", device="cpu", check_every=1)
    with pytest.raises(DivergenceError, match=r"moment \d+ .*population '(V\d|readout)', pathway '.*->"):
        simulation.run(stream)
    broken = stream[0].require(Fixation, "test").stimulus.clone()
    broken[2, 3] = float("nan")
    simulation = Simulation(dense_network(), "bp", dtype="float64", device="cpu", check_every=1)
    with pytest.raises(DivergenceError, match="stimulus on population 'retina'"):
        simulation.run([stream[0].with_events(Fixation(broken))])
    network = dense_network(None, "relu")
    simulation = Simulation(network, "clapp", dtype="float64", device="cpu", check_every=5)
    simulation.run(stream[:1])
    network.pathways["V1->V2"].weight[0, 0] = float("inf")
    with pytest.raises(DivergenceError, match="population 'V2', pathway 'V1->V2'"):
        simulation.run(stream[:10])


def test_one_decision_about_device_and_dtype() -> None:
    with pytest.raises(OptionError, match="expected auto, cpu or cuda"):
        Simulation(dense_network(), "bp", device="tpu")
    with pytest.raises(OptionError, match="float32 or float64"):
        Simulation(dense_network(), "bp", dtype="int8")
    simulation = Simulation(dense_network(), "bp", device="cpu", dtype="float32")
    simulation.run(moments(simulation.network, 2))
    assert simulation.network.sweep(torch.zeros(1, 12))["V1"].dtype == torch.float32


def reference_step(kind: str, weight: Tensor, gradient: Tensor, steps: int) -> Tensor:
    weight = weight.clone().requires_grad_()
    make = {
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
        "adam": lambda p: torch.optim.Adam(p, lr=0.01),
        "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1),
    }
    optimiser = make[kind]([weight])
    for _ in range(steps):
        weight.grad = gradient.clone()
        optimiser.step()
    return weight.detach()


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_synapses_follow_torch_optim(kind: str) -> None:
    from neurossl.updates import Update

    network = dense_network()
    pathway = network.pathways["V1->V2"]
    update = Update(torch.randn_like(pathway.weight), torch.randn_like(pathway.bias))  # type: ignore[arg-type]
    want = reference_step(kind, pathway.weight, -update.weight, 5)
    options = {"adamw": {"weight_decay": 0.1}, "adam": {}, "sgd": {"momentum": 0.9, "weight_decay": 0.1}}[kind]
    synapses = Synapses(kind, lr=0.01, **options)
    for _ in range(5):
        synapses.change(pathway, update)
    assert torch.allclose(pathway.weight, want, rtol=1e-12, atol=1e-14)


def test_bounds_signs_and_exceptions_per_pathway() -> None:
    network = dense_network()
    before = clones(network)
    synapses = Synapses(
        "sgd", lr=5.0, bounds=(-0.2, 0.3), pathways={"V1->*": {"bounds": "sign"}, "*->readout": {"bounds": "dale"}}
    )
    Simulation(network, "bp", synapses, dtype="float64", device="cpu").run(moments(network, 5))
    first = network.pathways["retina->V1"].weight
    assert -0.2 <= float(first.min()) <= float(first.max()) <= 0.3
    kept = network.pathways["V1->V2"].weight
    assert bool((kept * before["V1->V2"][0] >= 0).all())
    dale = network.pathways["V2->readout"].weight
    assert all(bool((column >= 0).all() or (column <= 0).all()) for column in dale.T)
    for options, message in (
        ({"lr": -1}, "lr must be"),
        ({"optimizer": "rprop"}, "expected sgd, adam"),
        ({"bounds": (1, -1)}, "low <= high"),
        ({"bounds": "positive"}, "bounds must be"),
        ({"bounds": 5}, "bounds must be"),
        ({"lr": "fast"}, "lr must be"),
        ({"betas": (0.9, 1.0)}, "betas must be"),
        ({"pathways": {"*": {"speed": 1}}}, "'speed' does not exist"),
    ):
        with pytest.raises(OptionError, match=message):
            Synapses(**options)  # type: ignore[arg-type]


def test_generators_depend_on_name_and_seed_alone() -> None:
    one, two = Generators(3), Generators(3)
    torch.rand(5, generator=two["stimuli"])
    assert torch.equal(torch.rand(4, generator=one["weights"]), torch.rand(4, generator=two["weights"]))
    assert not torch.equal(
        torch.rand(4, generator=Generators(4)["weights"]), torch.rand(4, generator=Generators(3)["weights"])
    )


@pytest.mark.parametrize("reach", ["label", "copied label", "weights", "phase", "above", "elsewhere", "settling"])
def test_a_rule_that_reaches_too_far_is_refused(reach: str) -> None:
    class Greedy(Rule):
        """Reaches for what it has not declared."""

        name = "greedy"

        def credit(self, view: Any, moment: Moment) -> Any:
            from neurossl.events import Phase

            site = view.site("V1")
            if reach == "label":
                moment.require(Teaching, by="greedy")
            elif reach == "copied label":
                assert not [event for event in moment if isinstance(event, Teaching)]
                moment.with_events().require(Teaching, by="greedy")
            elif reach == "weights":
                view.carried_down(view.below("V2")[0], view.site("V2").drive)
            elif reach == "phase":
                moment.require(Phase, by="greedy")
            elif reach == "above":
                site.context(site.feedback("V2=>V1"), online=False)
            elif reach == "elsewhere":
                site.feedback("V2=>V2")
            else:
                view.predict({})
            yield from ()

    network = dense_network(None)
    make_rule("clapp-dfb").wire(network)
    moment = full_moment(network)
    expected = {
        "label": "'target'",
        "copied label": "'target'",
        "weights": "'weight transport'",
        "phase": "'phases'",
        "above": "'top-down activity'",
        "elsewhere": "ends elsewhere",
        "settling": "'settling'",
    }
    with pytest.raises(LocalityError, match=expected[reach]):
        list(Greedy().propose(network.sweep(moment.require(Fixation, "test").stimulus), moment))


@pytest.mark.parametrize("name", ["clapp", "clapp++", "ff", "scff", "phyll"])
def test_local_rules_do_not_feel_the_weights_above(name: str) -> None:
    rule = make_rule(name)
    network = rule.wire(map_network(None, normalisation=rule.normalisation))
    moment = full_moment(network)
    stimulus = moment.require(Fixation, "test").stimulus
    before = {p.name: u.weight for p, u in rule.propose(network.sweep(stimulus), moment)}
    for above in network.pathways.values():
        if above.post == "V3":
            above.weight.mul_(-3)
    after = {p.name: u.weight for p, u in rule.propose(network.sweep(stimulus), moment)}
    for pathway in network.pathways.values():
        assert torch.equal(before[pathway.name], after[pathway.name]) == (pathway.post != "V3"), pathway.name


def test_the_ledger_is_declared_in_known_words() -> None:
    for name in RULES:
        described = make_rule(name).describe()
        assert set(described["needs"]) <= set(NEEDS)
    assert "weight transport" in make_rule("bp").describe()["needs"]
    assert "weight transport" not in make_rule("dfa").describe()["needs"]
    assert make_rule("clapp").describe()["needs"] == ["neuromodulator", "lateral context"]
    with pytest.raises(OptionError, match="needs 'telepathy', which is not one of"):
        register("psychic")(type("Psychic", (Rule,), {"needs": frozenset({"telepathy"})}))
