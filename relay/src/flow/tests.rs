//! Single rules of the flow, each with the schedule that needs it.
