"""Whether the loop that runs is the loop that the sheet describes."""
