// Keeps assembly compiled that no registered kernel uses.

#include "probes.cuh"
#include "probes_hopper.cuh"
