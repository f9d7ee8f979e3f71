//! What an execution is and how it moves: states, events, one transition table, the planner. Pure: no IO, no clock.
