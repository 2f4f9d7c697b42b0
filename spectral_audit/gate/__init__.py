"""From a report and a policy to a verdict: rules, the figures they name, and how an interval decides them."""
