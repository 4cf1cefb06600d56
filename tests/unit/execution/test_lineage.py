"""What OpenLineage is told of a step."""

from __future__ import annotations

from airflow_provider_metaflow.execution.lineage import step_lineage


def test_a_task_is_a_dataset_made_from_those_before_it() -> None:
    found = step_lineage("F", ["F/r/join/t"], ["r/a/t", "r/b/t"], "Joins.")
    assert [(one.namespace, one.name) for one in found.inputs] == [("metaflow", "F/r/a/t"), ("metaflow", "F/r/b/t")]
    assert [(one.namespace, one.name) for one in found.outputs] == [("metaflow", "F/r/join/t")]
    assert found.run_facets["externalQuery"].externalQueryId == "F/r/join/t"
    assert found.job_facets["documentation"].description == "Joins."


def test_the_parameters_of_a_run_are_no_input_and_a_skipped_task_has_no_output() -> None:
    assert step_lineage("F", ["F/r/start/t"], ["r/_parameters/t-params"], "").inputs == []
    skipped = step_lineage("F", [], [], "")
    assert (skipped.outputs, skipped.run_facets, skipped.job_facets) == ([], {}, {})
