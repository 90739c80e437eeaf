"""Responses to the same stimuli over learning: what is stored of them, and that others are never taken for the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from conftest import MemoryStore, clones, dense_circuit, full_moment, map_circuit, same, simulated

import analysis
from analysis import TrajectoryWriter, manifest, open_trajectory, require_same_stimuli
from neurossl import Checkpointer, NeurosslError, Replicas, ResponseRecorder, Simulation, Stimuli, Synapses, mlp
from neurossl.errors import OptionError, TrajectoryError
from neurossl.stimuli import ImageSet, ViewPairs, default_views, load_images
from protocols.harness.learning import responses
from protocols.harness.probes import fixed_stimuli

SHOWN = torch.randn(11, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def pairs(moments: int, seed: int = 0) -> ViewPairs:
    return ViewPairs(load_images("digits"), observers=8, moments=moments, seed=seed)


def test_what_is_stored_is_the_response_without_learning_at_the_beginning_now_and_then_and_at_the_end(
    store: MemoryStore,
) -> None:
    circuit = dense_circuit(None)
    labels = np.arange(11) % 3
    recorder = ResponseRecorder(SHOWN, every=2, labels=labels, ids=np.arange(100, 111))
    simulation = simulated(circuit, "clapp++gap", Synapses(lr=1e-2), store=store, recorders=[recorder])
    before = simulation.respond(SHOWN)
    simulation.run([full_moment(circuit, seed=seed) for seed in range(5)])
    after = simulation.respond(SHOWN)
    for name in ("V1", "V2"):
        stored = store.of("responses", name)
        assert list(stored) == [0, 2, 4, 5]
        assert np.array_equal(stored[0]["response"], before[name].numpy())
        assert np.array_equal(stored[5]["response"], after[name].numpy())
        variables, coords = store.declared["responses", name]
        assert variables["response"].dims == ("stimulus", "neuron")
        assert coords["stimulus"][1].tolist() == coords["image"][1].tolist() == list(range(100, 111))
        assert coords["label"][1].tolist() == labels.tolist()
        assert coords["neuron"][1].tolist() == list(range(len(stored[0]["response"][0])))


def test_many_stimuli_are_shown_some_at_a_time(store: MemoryStore) -> None:
    circuit = dense_circuit(None)
    many = torch.randn(600, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    simulation = simulated(circuit, "clapp++gap", store=store, recorders=[ResponseRecorder(many, 5, "V2")])
    expected = simulation.respond(many)["V2"].numpy()
    simulation.run([full_moment(circuit)])
    assert list(store.declared) == [("responses", "V2")]
    assert store.of("responses", "V2")[0]["response"] == pytest.approx(expected, abs=1e-14)


def test_neurons_are_a_number_or_indices_and_of_a_map_have_places(store: MemoryStore) -> None:
    circuit = map_circuit()
    shown = torch.randn(3, 2, 9, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    recorder = ResponseRecorder(shown, 1, ["V1", "V2", "V3"], {"V1": 6, "V3": [5, 2]})
    simulation = simulated(circuit, "clapp++gap", store=store, recorders=[recorder])
    expected = simulation.respond(shown)
    simulation.run([full_moment(circuit)])
    for name, count in (("V1", 6), ("V3", 2), ("V2", expected["V2"][0].numel())):
        coords = store.declared["responses", name][1]
        place = tuple(coords[axis][1] for axis in ("channel", "y", "x"))
        assert np.array_equal(store.of("responses", name)[0]["response"], expected[name].numpy()[:, *place])
        assert len(coords["neuron"][1]) == count
    assert store.declared["responses", "V3"][1]["neuron"][1].tolist() == [5, 2]
    again = MemoryStore()
    other = simulated(circuit, "bp-clapp++", store=again, recorders=[ResponseRecorder(shown, 1, "V1", 6)])
    other.run([full_moment(circuit)])
    chosen = [s.declared["responses", "V1"][1]["neuron"][1].tolist() for s in (store, again)]
    assert chosen[0] == chosen[1], "the same neurons whatever the rule"


def test_tensors_arrays_and_image_sets_that_show_the_same_have_one_digest() -> None:
    images = load_images("digits")
    still = default_views(images).still(images.test)
    of_set, of_tensor = Stimuli(images), Stimuli(still, labels=images.test_labels)
    of_array = Stimuli(still.numpy().astype(np.float64), labels=images.test_labels.numpy().astype(np.int32))
    assert of_set.digest == of_tensor.digest == of_array.digest
    assert len(of_set) == len(images.test)
    pixels = (still * 255).round().to(torch.uint8)
    of_pixels, of_floats = Stimuli(pixels), Stimuli(pixels.float() / 255)
    assert of_pixels.shown.dtype == Stimuli(pixels.numpy()).shown.dtype == torch.uint8, "not four times as large"  # type: ignore[union-attr]
    assert of_pixels.digest == of_floats.digest == Stimuli(pixels.numpy()).digest
    assert torch.equal(of_pixels.some(300, 400), of_floats.some(300, 400))  # type: ignore[arg-type]
    turned = pixels.numpy()[:, :, ::-1]
    turned.flags.writeable = False
    assert Stimuli(turned).digest == Stimuli(pixels.flip(2)).digest, "read-only, of negative strides"
    others = [
        Stimuli(still.flip(0), labels=images.test_labels),
        Stimuli(still),
        Stimuli(still, labels=images.test_labels.flip(0)),
        Stimuli(still, ids=np.arange(len(still)) + 1, labels=images.test_labels),
        Stimuli(still, labels=images.test_labels, images=np.zeros(len(still), int)),
    ]
    assert len({s.digest for s in (of_set, *others)}) == 1 + len(others)
    changed = still.clone()
    changed[3, 0, 2, 5] += 1e-6
    assert Stimuli(changed, labels=images.test_labels).digest != of_set.digest


def test_what_is_handed_in_may_be_changed_afterwards() -> None:
    mine = SHOWN.clone()
    stimuli = Stimuli(mine)
    mine.zero_()
    assert stimuli.digest == Stimuli(SHOWN).digest


def test_the_expected_size_is_what_is_stored(tmp_path: Path) -> None:
    images = load_images("digits")
    for moments in (9, 10):
        run = tmp_path / str(moments)
        with TrajectoryWriter(run) as store:
            recorder = ResponseRecorder(images, 5, neurons={"V1": 7})
            made = Simulation(mlp(images.shape, [16, 12]), "clapp++gap", device="cpu", store=store, recorders=[recorder])
            made.run(pairs(moments))
        tree = open_trajectory(run)
        stored = [node["response"] for node in tree["responses"].children.values()]
        assert manifest(run)["expected_bytes"] == sum(array.nbytes for array in stored)
        assert {array.dtype for array in stored} == {np.dtype("float32")}


def recorded(run: Path, moments: int, recorder: ResponseRecorder, resumed: bool = False) -> Simulation:
    options: dict[str, Any] = {"recorders": [recorder], "checkpoints": Checkpointer(every=2), "device": "cpu"}
    if resumed:
        with TrajectoryWriter.reopen(run) as store:
            return Simulation.from_checkpoint(run, store=store, **options).run(pairs(moments))
    with TrajectoryWriter(run) as store:
        return Simulation(mlp((1, 16, 16), [16, 12]), "clapp++gap", store=store, **options).run(pairs(moments))


STILL = torch.rand(9, 1, 16, 16, generator=torch.Generator().manual_seed(2))
LABELS = [0, 1, 2] * 3
OTHERS: dict[str, tuple[Callable[[], ResponseRecorder], str]] = {
    "values": (lambda: ResponseRecorder(STILL.flip(0), 2, neurons=5, labels=LABELS), "have other values: give it the same"),
    "ids": (
        lambda: ResponseRecorder(STILL, 2, neurons=5, labels=LABELS, ids=range(1, 10)),
        "have other ids, images: give",
    ),
    "labels": (lambda: ResponseRecorder(STILL, 2, neurons=5, labels=LABELS[::-1]), "have other labels"),
    "fewer": (lambda: ResponseRecorder(STILL[:4], 2, neurons=5, labels=LABELS[:4]), "other values, ids, images, labels"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_run_that_goes_on_with_other_stimuli_is_refused(tmp_path: Path, what: str) -> None:
    recorded(tmp_path / "run", 4, ResponseRecorder(STILL, 2, neurons=5, labels=LABELS))
    other, says = OTHERS[what]
    with pytest.raises(OptionError, match=says):
        recorded(tmp_path / "run", 8, other(), resumed=True)
    assert manifest(tmp_path / "run")["state"] != "running"
    stored = open_trajectory(tmp_path / "run")["responses/V1"]
    assert stored["snapshot"].values.tolist() == [0, 2, 4]


def test_a_run_goes_on_with_the_same_stimuli_and_the_same_neurons(tmp_path: Path) -> None:
    for name, lengths in (("whole", [8]), ("twice", [4, 8])):
        for number, moments in enumerate(lengths):
            recorder = ResponseRecorder(STILL, 2, neurons=5, labels=LABELS)
            recorded(tmp_path / name, moments, recorder, resumed=number > 0)
    whole, twice = (open_trajectory(tmp_path / name) for name in ("whole", "twice"))
    xr.testing.assert_identical(whole["responses"].load(), twice["responses"].load())
    assert require_same_stimuli([whole, twice]) == Stimuli(STILL, labels=LABELS).digest


def test_replicas_respond_as_they_do_alone() -> None:
    def made(store: MemoryStore, seed: int) -> Simulation:
        recorders = [ResponseRecorder(STILL, 2, neurons=5)]
        network = mlp((1, 16, 16), [16, 12])
        return Simulation(network, "clapp++gap", seed=seed, dtype="float64", store=store, recorders=recorders, device="cpu")

    stores = [MemoryStore() for _ in range(4)]
    Replicas([made(stores[seed], seed) for seed in (0, 1)]).run([pairs(4, seed) for seed in (0, 1)])
    for seed in (0, 1):
        made(stores[2 + seed], seed).run(pairs(4, seed))
        joined, alone = (s.of("responses", "V2") for s in (stores[seed], stores[2 + seed]))
        assert list(joined) == list(alone) == [0, 2, 4]
        assert all(joined[e]["response"] == pytest.approx(alone[e]["response"], abs=1e-9) for e in alone)


def test_it_changes_nothing_and_may_be_taken_away_and_given_again(store: MemoryStore) -> None:
    circuit = dense_circuit(None)
    moments = [full_moment(circuit, seed=seed) for seed in range(4)]
    recorder = ResponseRecorder(SHOWN, 1, neurons=4)
    simulation = simulated(circuit, "clapp++gap", store=store, recorders=[recorder])
    simulation.run(moments[:2])
    simulation.remove_recorder(recorder)
    plain = simulated(circuit, "clapp++gap").run(moments[:2])
    assert same(clones(simulation.weights), clones(plain.weights))
    elsewhere = MemoryStore()
    simulated(circuit, "clapp++gap", store=elsewhere, recorders=[recorder]).run(moments)
    assert list(elsewhere.of("responses", "V1")) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Stimuli(SHOWN, ids=[0] * 11), "ids: 0 is there twice"),
        (lambda: Stimuli(SHOWN, ids=range(5)), r"ids: expected one whole number per stimulus \(11\)"),
        (lambda: Stimuli(SHOWN, labels=["cat"] * 11), "labels: expected one whole number per stimulus"),
        (lambda: Stimuli(SHOWN, labels=np.arange(11.0)), "labels: expected one whole number per stimulus"),
        (lambda: Stimuli(SHOWN * float("nan")), "expected finite numbers"),
        (lambda: Stimuli(SHOWN[:0]), "expected at least one row"),
        (lambda: Stimuli(SHOWN[0]), r"expected one row per fixation"),
        (lambda: Stimuli("digits"), "expected images as the stream shows them"),
        (lambda: Stimuli({"a": SHOWN, "b": SHOWN[:3]}), "expected the same number for a, b"),
        (lambda: ResponseRecorder(Stimuli(SHOWN), 1, labels=[0] * 11), "have identifiers and labels of their own"),
        (lambda: ResponseRecorder(SHOWN, 0), "expected a whole number >= 1"),
        (lambda: ResponseRecorder(SHOWN, 1, []), "would record nothing"),
        (lambda: ResponseRecorder(SHOWN, 1, neurons=[1, 2]), "expected a number, or numbers or indices by population"),
        (lambda: ResponseRecorder(SHOWN, 1, encode="neutral"), "encode is a function"),  # type: ignore[arg-type]
        (lambda: ResponseRecorder(SHOWN, 1, "V9"), "V9"),
        (lambda: ResponseRecorder(SHOWN, 1, "V1", {"V2": 3}), "neurons of 'V2', which is not recorded"),
        (lambda: ResponseRecorder(SHOWN, 1, neurons={"V1": [99]}), "neurons of 'V1': expected whole numbers from 0 to 8"),
        (lambda: ResponseRecorder(SHOWN, 1, neurons=True), "expected a whole number"),
        (lambda: ResponseRecorder(SHOWN[:, :5], 1), "expected rows of"),
    ],
)
def test_what_cannot_be_shown_or_recorded_is_refused_before_anything_is_learned(
    make: Callable[[], Any], says: str, store: MemoryStore
) -> None:
    circuit = dense_circuit(None)
    with pytest.raises(NeurosslError, match=says):
        simulated(circuit, "clapp++gap", store=store, recorders=[make()]).run([full_moment(circuit)])
    assert not [event for *_, event, _, _, _ in store.records if event]


def test_several_input_populations_are_shown_their_own() -> None:
    from neurossl import FeedforwardPathway, InputPopulation, Network, Population

    ends = InputPopulation("left", 4), InputPopulation("right", 3), Population("V1", 6)
    network = Network(*ends, FeedforwardPathway("left", "V1"), FeedforwardPathway("right", "V1"))
    shown = {"right": torch.randn(5, 3), "left": torch.randn(5, 4)}
    store = MemoryStore()
    simulation = Simulation(network, "clapp++gap", store=store, recorders=[ResponseRecorder(shown, 1)], device="cpu")
    simulation.start()
    assert np.array_equal(store.of("responses", "V1")[0]["response"], simulation.respond(shown)["V1"].numpy())


# What other analyses ask before they compare.


def group(ids: Any = (4, 2, 9), labels: Any = (0, 1, 0), digest: str = "d1", **attrs: str) -> xr.Dataset:
    values = np.zeros((2, 3, 4))
    coords = {"stimulus": list(ids), "label": ("stimulus", list(labels))}
    return xr.Dataset({"response": (("snapshot", "stimulus", "neuron"), values)}, coords, {"stimuli": digest, **attrs})


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (group().isel(stimulus=[0, 1]), "2 stimuli, and 3"),
        (group().isel(stimulus=[1, 0, 2]), "the same identifiers in another order"),
        (group(ids=(4, 2, 8)), "other identifiers, stimulus 2 being 8 and 9"),
        (group(labels=(0, 1, 2)), "other labels, stimulus 9 having 2 and 0"),
        (group(digest="d2"), r"other values under the same identifiers \(digests d2 and d1\)"),
    ],
)
def test_stimuli_that_differ_are_refused_with_what_differs(other: xr.Dataset, says: str) -> None:
    assert require_same_stimuli([group(), group()]) == "d1"
    assert require_same_stimuli([group(), group()["response"]]) == "d1"
    with pytest.raises(TrajectoryError, match=f"a rerun and the run were not shown the same stimuli: {says}"):
        require_same_stimuli({"the run": group(), "a rerun": other})


def test_trees_are_compared_in_all_their_populations() -> None:
    def tree(**digests: str) -> xr.DataTree:
        groups = {f"responses/{name}": group(digest=digest, name=name) for name, digest in digests.items()}
        return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"rule": "clapp++gap"}), **groups})

    assert require_same_stimuli([tree(V1="a", V2="a"), tree(V1="a")]) == "a"
    assert require_same_stimuli(tree(V1="a")["responses/V1"]) == "a"
    with pytest.raises(TrajectoryError, match=r"y: /responses/V2 and x: /responses/V1 were not shown the same"):
        require_same_stimuli({"x": tree(V1="a", V2="a"), "y": tree(V1="a", V2="b")})
    with pytest.raises(TrajectoryError, match=r"number 0: no responses were recorded: give the simulation a"):
        require_same_stimuli([xr.DataTree(xr.Dataset(attrs={"rule": "clapp++gap"}))])
    with pytest.raises(TrajectoryError, match="no correctness"):
        require_same_stimuli(tree(V1="a"), "correctness")
    with pytest.raises(TrajectoryError, match="no responses were recorded"):
        require_same_stimuli([])
    with pytest.raises(TrajectoryError, match="expected trees of runs, groups or responses, got int"):
        require_same_stimuli([3])
    with pytest.raises(TrajectoryError, match="expected the coordinate 'stimulus'"):
        require_same_stimuli(xr.DataArray(np.zeros(3), name="mean"))


# What protocols record.


def test_protocols_show_every_rule_and_seed_the_same_balanced_test_images(digits: ImageSet) -> None:
    stimuli = fixed_stimuli(digits, 200)
    assert len(stimuli) == 200
    assert torch.equal(stimuli.shown, default_views(digits).still(digits.test[torch.from_numpy(stimuli.ids)]))  # type: ignore[arg-type]
    assert np.array_equal(stimuli.labels, digits.test_labels[torch.from_numpy(stimuli.ids)])
    counts = np.bincount(stimuli.labels)
    assert counts.max() - counts.min() <= 1
    assert len(fixed_stimuli(digits, 10**6)) == len(digits.test)
    from neurossl import make_rule

    plain, taught = (responses(digits, make_rule(rule), 10, 200) for rule in ("clapp++gap", "ff"))
    assert plain.stimuli.digest == taught.stimuli.digest
    assert plain.encode is None
    assert taught.encode is not None
    shown = taught.encode(stimuli.shown)
    assert torch.equal(shown[:, :, 1:], stimuli.shown[:, :, 1:])
    assert bool((shown[:, 0, 0, :10] == 0.1).all())


def test_what_is_recorded_is_exported(tmp_path: Path) -> None:
    recorded(tmp_path / "run", 2, ResponseRecorder(STILL, 2, labels=LABELS))
    analysis.export(tmp_path / "run", tmp_path / "run.nc")
    with xr.open_datatree(tmp_path / "run.nc") as exported:
        assert require_same_stimuli([open_trajectory(tmp_path / "run"), exported])
        assert exported["responses/V2"]["response"].sizes == {"snapshot": 2, "stimulus": 9, "neuron": 12}
