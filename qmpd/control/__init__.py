"""The puppeteer's side: guest actions, clock, faults, reply overrides."""
