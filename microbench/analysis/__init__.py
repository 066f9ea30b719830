"""From samples to numbers: levels, ceilings, rooflines, plausibility, comparison. Needs records only, no hardware."""
