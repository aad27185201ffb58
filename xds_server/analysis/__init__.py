"""From request counts to rollout verdicts (pure).

`counts` are the requests that proxies counted. `verdicts` decides from them whether a candidate is worse
(which rolls it back) or proven not worse (which promotes it); `verdicts.metrics.METRICS` lists the metrics,
and a new metric is added there. `experiments` sizes and evaluates A/B tests.
"""
