"""From a stream's JSON schema to typed columns: types, transformations, Arrow batches."""
