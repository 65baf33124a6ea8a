"""Where inputs come from: specs, domains inferred from examples, Hypothesis strategies. All randomness is drawn here."""
