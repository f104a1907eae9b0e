"""Operations on pixel arrays: resampling, nodata and quantization, pictures."""
