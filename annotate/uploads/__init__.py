"""Reading what people upload: tables, Parquet and zips of images, streamed and safe against hostile files."""
