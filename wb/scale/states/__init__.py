"""An optimizer whose state is updated on two devices at once, by the published model of what is fastest."""
