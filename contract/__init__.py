"""What everyone agrees on: config, artifact layout, records, storage rules and errors."""
