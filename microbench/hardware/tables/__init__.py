"""Tables of hardware facts, each row with its source; rows that contradict themselves are refused at import."""
