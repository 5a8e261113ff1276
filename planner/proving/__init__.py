"""How a plan is proved: what is asked, the steps, what they came to, and the verdict. Pure data and laws."""
