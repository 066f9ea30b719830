"""From samples to numbers: levels, ceilings, rooflines, what cannot be, and comparison. Needs records only, no hardware."""
