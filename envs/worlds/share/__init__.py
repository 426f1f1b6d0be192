"""Share: foraging beside a partner, scripted or trained."""
