"""How far predictions are from what others measured: rows, predictions, boards, pages, and the fits behind them."""
