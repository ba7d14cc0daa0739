"""The bundle: everything that a device needs of one network, in one folder, checked by running it without `wb`."""
