#pragma once
// Training as the verbs train and demo share it.

#include <optional>
#include <string>

#include "program/verb.h"
#include "reid/formats/files.h"
#include "reid/learning/recipe.h"

namespace reid::program {

RunPorts screen_ports(const Context& context);  // progress on the terminal, stop on a signal

// Trains into folder `out`; the results of the evaluation, or nothing when the run was stopped.
std::optional<Json> train_recipe(const Context& context, Recipe& recipe, const ConfigKeys& keys, const std::string& out, bool resume);

}  // namespace reid::program
