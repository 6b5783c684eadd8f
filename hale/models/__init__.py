"""The models: each maps a query (entity, relation) to a vector that is compared with entities."""
