"""What the pre-flight check finds out by itself; what it asks clusters is in tests/cluster."""

from launching.cluster.preflight import unknown_keys


def test_unknown_keys_of_a_template_are_found_at_any_depth() -> None:
    template = {
        "metadata": {"annotation": {}},
        "spec": {"containers": [{"name": "main", "volumeMount": []}], "nodeSelector": {"any": "x"}},
    }
    assert list(unknown_keys(template, "V1Pod", "pod.template")) == [
        "pod.template.metadata.annotation: unknown key of ObjectMeta; did you mean 'annotations'?",
        "pod.template.spec.containers[0].volumeMount: unknown key of Container; "
        "did you mean 'volumeMounts'?",
    ]
