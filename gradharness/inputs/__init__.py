"""Where inputs come from: specs, domains, recipes and the strategies that draw them. All randomness is drawn here."""
