"""Video files: MP4, AVI and MKV."""
