"""Options chosen on seeds that are not reported: searches, their trials and what they chose."""
