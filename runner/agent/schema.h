// As much of JSON Schema as tells a model what is wrong with its arguments: type, required, properties,
// additionalProperties: false, items, enum, minItems, minimum, maximum. Other keywords are not looked at: what a server
// demands beyond these it checks itself. A $ref is never followed.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace runner::agent {

/// "is no JSON: ...", "is nested deeper than 32 levels", "has the key 'x' twice in one object". Empty: nothing is wrong.
/// The deepest text that passes is safe for whatever recurses over it.
std::optional<std::string> wrong_with_json(const std::string& text, std::size_t deepest);

/// The same for the schema of a tool's arguments: a JSON object whose type is "object".
std::optional<std::string> wrong_with_schema(const std::string& text);

/// A sentence for the model when its arguments are no JSON object or do not fit; empty: they fit. A schema that cannot
/// be read demands nothing but an object.
std::optional<std::string> check_arguments(const std::string& schema_json, const std::string& arguments_json);

}  // namespace runner::agent
