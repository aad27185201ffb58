"""From counts to verdicts: what was counted, what it proves of a candidate, and A/B test reports (pure)."""
