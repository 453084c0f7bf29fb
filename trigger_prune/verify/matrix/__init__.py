"""Every kind of network in every way hls4ml can build it: the same bits, or refused before hls4ml is called."""
