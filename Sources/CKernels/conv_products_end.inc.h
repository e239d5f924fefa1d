// Undoes the macros of conv_products.inc.h.
#undef TILE
#undef PAIR
#undef TILE_C
#undef WIDTHS
#undef WIDTHS_2
#undef WIDTHS_6
#undef WIDTHS_14
