"""Rules of a run, as functions of what is known about it: commands, inputs, index contexts, outcomes, resumed runs."""
