"""What nodes offer against what specialists ask, in words."""

from __future__ import annotations

from backend.schema.records import Node
from backend.specialists.nodes import fitting, node_of, options, own_node, unmet

SMALL = Node("n1", "small", "10.0.0.1", resources={"CPU": 2})
LARGE = Node("n2", "large", "10.0.0.2", resources={"CPU": 16, "GPU": 1}, labels={"zone": "b"})
GONE = Node("n3", "gone", "10.0.0.3", alive=False, resources={"CPU": 64, "GPU": 8}, labels={"zone": "a"})
ALL = [SMALL, LARGE, GONE]


def test_only_live_nodes_with_all_that_is_asked_fit() -> None:
    assert fitting(ALL, {}, {}) == [SMALL, LARGE]
    assert fitting(ALL, {"GPU": 1}, {"zone": "b"}) == [LARGE]
    assert fitting(ALL, {"GPU": 2}, {}) == []


def test_what_is_not_met_is_named_with_the_most_there_is() -> None:
    assert unmet(ALL, {"GPU": 1}, {}) == ""
    assert unmet(ALL, {"GPU": 4}, {}) == "none of 2 nodes offers GPU 4 (the most one has is 1)"
    assert unmet(ALL, {}, {"zone": "a"}) == "none of 2 nodes offers label zone=a"
    assert unmet([SMALL, Node("n4", "b", "10.0.0.4", labels={"zone": "c"})], {"CPU": 1}, {"zone": "c"}) == (
        "none of 2 nodes offers all that is asked for at once"
    )
    assert unmet([GONE], {}, {}) == "the cluster has no live node"


def test_what_is_asked_becomes_an_actor_s_options_and_nothing_asked_takes_nothing() -> None:
    assert options({}, {}) == {"num_cpus": 0}
    assert options({"CPU": 0.5, "GPU": 1, "memory": 5e9, "disk": 2}, {"zone": "b"}) == {
        "num_cpus": 0.5,
        "num_gpus": 1,
        "memory": 5e9,
        "resources": {"disk": 2},
        "label_selector": {"zone": "b"},
    }


def test_a_node_is_read_without_the_engine_s_own_bookkeeping() -> None:
    row = {
        "NodeID": "abc",
        "Alive": True,
        "NodeManagerAddress": "10.0.0.9",
        "NodeManagerHostname": "nine",
        "Resources": {"CPU": 4.0, "node:10.0.0.9": 1.0, "object_store_memory": 1.0, "memory": 2.0},
        "Labels": {"ray.io/node-id": "abc", "zone": "b"},
    }
    found = node_of(row)
    assert (found.host, found.resources, found.labels) == ("nine", {"CPU": 4.0, "memory": 2.0}, {"zone": "b"})


def test_this_machine_is_a_node_of_its_own() -> None:
    assert own_node(["apollo-ai"]).specialists == ["apollo-ai"]
    assert own_node([]).resources["CPU"] >= 1
