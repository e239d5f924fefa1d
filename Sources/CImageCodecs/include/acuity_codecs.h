void ac_placeholder(void);
