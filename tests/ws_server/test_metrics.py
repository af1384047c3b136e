"""What a node's /metrics says."""

from __future__ import annotations

from .nodes import Nodes


def test_metrics_have_a_zero_for_what_has_not_happened_yet(nodes: Nodes) -> None:
    """An alert on an increase misses the first event of a series that was not there before."""
    text = nodes.nodes["n1"].get("/metrics").text
    expected = [
        *(f'moves_total{{event="{event}"}}' for event in ("planned", "told", "went", "stayed", "closed", "misplaced")),
        *(f'documents_refused_total{{cause="{cause}"}}' for cause in ("forged", "corrupt", "refused", "mirror")),
        'registration_events_total{event="duplicate"}',
        'zookeeper_events_total{event="restarts"}',
    ]
    assert [name for name in expected if f"\nringway_node_{name} 0.0\n" not in text] == []


def test_what_became_of_the_session_and_the_entry_is_told(nodes: Nodes) -> None:
    node = nodes.nodes["n1"]
    assert node.metric("zookeeper_events_total", event="sessions") == 1
    assert node.metric("registration_events_total", event="created") == 1
